pytest_plugins = ["airflow_provider_polar.testing.plugin"]
