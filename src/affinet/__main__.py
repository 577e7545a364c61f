"""`python -m affinet` is the `affinet` command."""

from affinet.cli.main import app

if __name__ == "__main__":
    app()
