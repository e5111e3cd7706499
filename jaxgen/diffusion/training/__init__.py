"""What training draws and weighs, and the denoising loss."""
