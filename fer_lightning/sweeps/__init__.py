"""Many runs: what they are, which are missing, and running them through Hydra's launchers."""
