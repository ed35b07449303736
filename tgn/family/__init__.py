"""The graph family: models trained in batch on a graph of the whole log, for embeddings (needs the extra `graph`)."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch_geometric calls what torch deprecates, sparse CSR is "in beta": said once
    import torch
    import torch_geometric.nn  # noqa: F401

    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    torch.eye(1).to_sparse_csr()
