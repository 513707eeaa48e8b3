"""Run the command as a module: python -m clv_pipeline.cli."""

from clv_pipeline.cli import main

if __name__ == "__main__":
    main()
