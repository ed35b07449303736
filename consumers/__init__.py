"""The wire: records in and out of a log, decoded and validated. No tensors here."""
