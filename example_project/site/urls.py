"""The site's addresses."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from example_project.site import views

urlpatterns = [
    path("", views.project, name="project"),
    path("start/<str:pipeline>", views.start, name="start"),
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("livelog/", include("celery_livelog.contrib.django.urls")),
]
