"""``python -m fer_lightning`` is ``fer``."""

from fer_lightning.cli import main

raise SystemExit(main())
