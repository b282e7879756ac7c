"""The paper's blocks and networks as HybridBlocks."""
