"""``python -m azure_twin``."""

from azure_twin.cli import main

if __name__ == "__main__":
    main()
