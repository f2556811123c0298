"""How a network is trained: module, stages, Trainer, optimizers, callbacks and loggers."""
