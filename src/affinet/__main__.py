"""Run the `affinet` command as `python -m affinet`."""

from affinet.cli.main import app

if __name__ == "__main__":
    app()
