"""Networks and schedules in the format of diffusers."""
