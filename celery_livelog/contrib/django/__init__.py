"""Live logs and runs on the pages of a Django site: ``INSTALLED_APPS = [..., "celery_livelog.contrib.django"]``."""
