"""The weights of LPIPS."""
