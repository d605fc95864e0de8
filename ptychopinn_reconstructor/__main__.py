"""`python -m ptychopinn_reconstructor`: the command line, also where no script is on the path."""

from .cli.main import main

if __name__ == '__main__':
    main()
