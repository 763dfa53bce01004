"""Images from files to batches; numpy and grain, no device code."""
