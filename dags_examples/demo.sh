#!/bin/sh
# Runs the flights pipeline with `airflow dags test`: against a local Polar, or with POLAR_ACCESS_TOKEN set against
# Polar's sandbox. Called by `make demo`, which gives BIN (a bin folder with Airflow), DEMO (a scratch folder) and DAY.
set -eu

export AIRFLOW_HOME="$DEMO/airflow"
export AIRFLOW__CORE__DAGS_FOLDER="$(pwd)/dags_examples"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__LOGGING__LOGGING_LEVEL="${LOG_LEVEL:-INFO}"
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export POLAR_DEMO_LAKE="file://$DEMO/lake"
mkdir -p "$AIRFLOW_HOME"

"$BIN/airflow" db migrate >"$DEMO/migrate.log" 2>&1 || { cat "$DEMO/migrate.log"; exit 1; }

set -- "$BIN/airflow" dags test flights_pipeline --conf "{\"day\": \"$DAY\"}"
if [ -n "${POLAR_ACCESS_TOKEN:-}" ]; then
    AIRFLOW_CONN_POLAR_DEFAULT=$("$BIN/python" -c '
import json, os
print(json.dumps({"conn_type": "polar", "password": os.environ["POLAR_ACCESS_TOKEN"], "extra": {"environment": "sandbox"}}))
')
    export AIRFLOW_CONN_POLAR_DEFAULT
    echo "The flights pipeline of $DAY against Polar's sandbox"
else
    # A realistic second until what was ingested is listed.
    set -- "$BIN/python" -m airflow_provider_polar.testing --visibility-lag 1 --seed -- "$@"
    echo "The flights pipeline of $DAY against a local Polar"
fi

log="$DEMO/demo.log"
status=0
"$@" >"$log" 2>&1 || status=$?
# The report is what the last task printed; the rest of Airflow's log is in the file.
sed -n '/events in: /,/  all /p' "$log" | sed -E 's/^[^]]*\] //'
if [ "$status" -ne 0 ] || ! grep -q "state=success" "$log"; then
    tail -n 60 "$log"
    echo "The demo failed; its whole log is in $log" >&2
    exit 1
fi
echo "The whole log is in $log, the files are in $DEMO/lake"
