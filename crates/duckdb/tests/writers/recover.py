"""Opens a DuckDB database, which recovers it if need be and holds it until the input ends. Usage: recover.py DATABASE"""

import sys

import duckdb

CONNECTION = duckdb.connect(sys.argv[1])
sys.stdin.read()
