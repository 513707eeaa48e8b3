"""Neural models: fitted with PyTorch, an optional extra; kept and served as plain arrays."""
