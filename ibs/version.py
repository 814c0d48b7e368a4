"""The one place where the product's name and version stand. Importable by everyone."""

from __future__ import annotations

PRODUCT = "Ironcore Backup Solution"
VERSION = "0.1.0"
API_VERSION = "v1"
