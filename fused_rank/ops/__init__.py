"""Between the public functions and the backends: validation, the choice of backend, autograd, fakes."""
