"""Attacks on files, requests, disks and processes: a sample of each as tests, all of them as a campaign."""
