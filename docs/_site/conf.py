"""How `make docs` builds the site: the Markdown files of the repository, read where they lie, and the code's own words.

The sources' root is the repository, so that every link between documents is the one that a reader of the files follows.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from ptychopinn_reconstructor import __version__  # noqa: E402

project = 'ptychopinn-reconstructor'
author = 'the ptychopinn-reconstructor developers'
release = version = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.doctest', 'parts']

root_doc = 'docs/index'
include_patterns = ['docs/**', 'specs/*.md', 'benchmarks/*.md', 'examples/*.md', 'examples/**/*.md', '*.md']
exclude_patterns = [
    'README.md', 'examples/README.md', 'docs/_site', '.*', 'build', 'dist', 'demo',
    'screenshots',
]  # fmt: skip

myst_enable_extensions = ['dollarmath', 'deflist']
myst_heading_anchors = 4
html_math_renderer = 'mathml'
smartquotes = False  # two hyphens begin an option, also outside of code

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
python_use_unqualified_type_names = True
default_role = 'code'  # what docstrings put in single backquotes
napoleon_use_rtype = False
nitpicky = True
# Names of other packages, since no network is asked, our aliases of types, and what a reader need not know.
nitpick_ignore_regex = [
    ('py:.*', r'(?!ptychopinn_reconstructor\.).*'),
    ('py:.*', r'ptychopinn_reconstructor\.(config\.sections|patterns|model_file\.(manifest|self_test))\..*'),
    ('py:.*', r'ptychopinn_reconstructor\.physics\.(scoring\.registration|residual\.DetectorSums).*'),
]

html_theme = 'pydata_sphinx_theme'
html_title = project
html_static_path = ['static']
html_css_files = ['site.css']
html_extra_path = ['root']
html_copy_source = False
html_show_sphinx = False
html_context = {'default_mode': 'auto'}  # light or dark as the reader's system is
html_theme_options = {
    'navbar_end': ['theme-switcher'],
    'secondary_sidebar_items': ['page-toc'],
    'show_toc_level': 2,
    'footer_start': ['copyright'],
    'footer_end': [],
}
linkcheck_anchors = False
