"""The update of packed batches as CUDA graphs: batches padded to few sizes, and the graphs of each size."""
