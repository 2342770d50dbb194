"""Object stores: one contract, the local disk and Google Cloud Storage."""
