"""Measurements in DuckDB, backed up every week; the last ten backups are kept."""

import os
import threading
from typing import Dict

import duckdb
from copal.contrib.fastapi import lifespan, router
from copal.jobs import Job
from fastapi import FastAPI
from pydantic import BaseModel

DATABASE = os.environ.get("DATABASE", "measurements.duckdb")
REPOSITORY = os.environ.get("BACKUPS", "backups")
SCHEDULE = os.environ.get("BACKUP_SCHEDULE", "@weekly")

# The file stays open in this process, the only one that may write it. The backup reads it from outside meanwhile.
database = duckdb.connect(DATABASE)
database.execute(
    "CREATE TABLE IF NOT EXISTS measurements (sensor TEXT, value BIGINT, measured TIMESTAMP DEFAULT current_timestamp)"
)
database.execute("CREATE TABLE IF NOT EXISTS sums (sensor TEXT PRIMARY KEY, value BIGINT, count BIGINT)")
writing = threading.Lock()

JOBS = [Job(DATABASE, SCHEDULE, keep={"last": 10}, name="measurements")]

app = FastAPI(title="Measurements", lifespan=lifespan(JOBS, repository=REPOSITORY))
app.include_router(router())


class Measurement(BaseModel):
    """What a sensor saw."""

    sensor: str
    value: int


@app.post("/measurements", status_code=201)
def add(measurement: Measurement) -> Dict[str, int]:
    """Adds a measurement, and its value to the sensor's sum, both or neither."""
    # Two transactions that change one row would conflict.
    with writing, database.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            "INSERT INTO measurements (sensor, value) VALUES (?, ?)", [measurement.sensor, measurement.value]
        )
        cursor.execute(
            "INSERT INTO sums VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET value = sums.value + excluded.value, count = sums.count + 1",
            [measurement.sensor, measurement.value],
        )
        cursor.execute("COMMIT")
    return {"value": measurement.value}


@app.get("/sums/{sensor}")
def sums(sensor: str) -> Dict[str, int]:
    """All values of a sensor together."""
    with database.cursor() as cursor:
        row = cursor.execute("SELECT value, count FROM sums WHERE sensor = ?", [sensor]).fetchone()
    return {"value": row[0], "count": row[1]} if row else {"value": 0, "count": 0}
