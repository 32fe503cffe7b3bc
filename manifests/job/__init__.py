"""The job directory: layout, journals, receipts, the final comparison."""
