"""`python -m tickplant` is `tickplant`."""

from tickplant.cli import main

main()
