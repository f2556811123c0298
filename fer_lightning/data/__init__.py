"""From annotation files to batches: readers, prepared store, data set, transforms, samplers, datamodule."""
