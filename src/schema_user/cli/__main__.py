"""``python -m schema_user.cli`` is ``schema-user``."""

from __future__ import annotations

import sys

from schema_user.cli import main

sys.exit(main())
