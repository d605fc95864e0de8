"""The backends, installed as `ptychopinn_reconstructor.backends`; found by entry points, never imported statically."""

if __name__ == 'backends':
    raise ImportError(
        "Import 'ptychopinn_reconstructor.backends', not 'backends': install the package first (pip install -e .)."
    )
