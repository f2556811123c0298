"""``python -m fer_lightning`` is ``fer``."""

from fer_lightning.cli.main import main

raise SystemExit(main())
