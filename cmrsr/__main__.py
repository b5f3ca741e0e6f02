"""``python -m cmrsr``."""

from cmrsr.cli import main

main()
