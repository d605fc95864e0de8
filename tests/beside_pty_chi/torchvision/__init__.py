"""Stand-in for torchvision, whose wheels do not load beside a PyTorch without CUDA; Pty-Chi takes one class of it."""
