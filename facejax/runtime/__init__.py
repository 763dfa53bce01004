"""What every part stands on: devices, compilation, files, the command line."""
