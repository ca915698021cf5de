"""The update of packed batches as CUDA graphs: batches are padded to a few sizes, and each size has its graphs."""
