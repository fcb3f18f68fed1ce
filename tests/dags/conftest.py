from support import airflow_home

assert airflow_home.HOME.is_dir()
