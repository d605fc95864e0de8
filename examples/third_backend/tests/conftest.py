pytest_plugins = ['ptychopinn_reconstructor.conformance.plugin']
