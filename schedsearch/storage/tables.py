"""The columns of Optuna's schema that schedsearch reads and writes in its own transactions."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    DateTime,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

#: Optuna's number for the schema that these columns belong to, and the releases that create it.
SCHEMA_VERSION = 12
OPTUNA_VERSIONS = "5"

metadata = MetaData()

version_info = Table("version_info", metadata, Column("schema_version", Integer))

studies = Table(
    "studies",
    metadata,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", String(512)),
)

directions = Table(
    "study_directions",
    metadata,
    Column("study_direction_id", Integer, primary_key=True),
    # Not an Enum: reading must not fail.
    Column("direction", String),
    Column("study_id", Integer),
    Column("objective", Integer),
)

trials = Table(
    "trials",
    metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")),
    # Naive UTC.
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)


def _attributes(name: str, key: str, owner: str = "trial_id") -> Table:
    return Table(
        name,
        metadata,
        Column(key, Integer, primary_key=True),
        Column(owner, Integer),
        Column("key", String(512)),
        Column("value_json", Text),
    )


study_attributes = _attributes("study_user_attributes", "study_user_attribute_id", "study_id")
study_system_attributes = _attributes(
    "study_system_attributes", "study_system_attribute_id", "study_id"
)
user_attributes = _attributes("trial_user_attributes", "trial_user_attribute_id")
system_attributes = _attributes("trial_system_attributes", "trial_system_attribute_id")

parameters = Table(
    "trial_params",
    metadata,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("param_name", String(512)),
    Column("param_value", Float(precision=53)),
    Column("distribution_json", Text),
)

reports = Table(
    "trial_intermediate_values",
    metadata,
    Column("trial_intermediate_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("step", Integer),
    Column("intermediate_value", Float(precision=53)),
    Column(
        "intermediate_value_type",
        Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype"),
    ),
)

values = Table(
    "trial_values",
    metadata,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("objective", Integer),
    Column("value", Float(precision=53)),
    Column("value_type", Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")),
)

heartbeats = Table(
    "trial_heartbeats",
    metadata,
    Column("trial_heartbeat_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("heartbeat", DateTime),
)
