"""Jobs that meet: one at a time, the second, the same job_id, clients that leave, any history."""
