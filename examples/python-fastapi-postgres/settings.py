"""Where the service's database is."""

import os

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql+psycopg://localhost/shop")
