"""Make the site's database with its users: ``python -m example_project.site.prepare``. Harmless when done twice."""

from __future__ import annotations

import os

import django
from django.core.management import call_command

#: Each user with an account; the password is the user's name. `boss` is staff and sees all.
USERS = {"alice": "acme", "bob": "globex", "boss": ""}


def main() -> None:
    """Make tables, users and accounts."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.site.settings")
    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import Group, User

    settings.STATE.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    for name, account in USERS.items():
        user, made = User.objects.get_or_create(username=name, defaults={"is_staff": not account})
        if made:
            user.set_password(name)
            user.save()
        if account:
            user.groups.add(Group.objects.get_or_create(name=account)[0])


if __name__ == "__main__":
    main()
