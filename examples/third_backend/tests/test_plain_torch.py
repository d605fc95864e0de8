from ptychopinn_reconstructor.conformance import BackendConformance


class TestPlainTorch(BackendConformance):
    backend_name = 'plain'
