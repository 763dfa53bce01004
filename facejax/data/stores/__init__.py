"""Where encoded images lie: folders, RecordIO, array_record, TFDS."""
