"""Proves that the numbers for Prometheus are bounded and right."""

from orchestrator.metrics import MAX_APPS, Metrics


def test_deploys_are_counted_by_app_and_result() -> None:
    metrics = Metrics()
    metrics.deploy_finished("shop", "live")
    metrics.deploy_finished("shop", "live")
    metrics.deploy_finished("shop", "failed")
    text = metrics.render().decode()
    assert 'fairlead_deploys_total{app="shop",result="live"} 2.0' in text
    assert 'fairlead_deploys_total{app="shop",result="failed"} 1.0' in text


def test_steps_are_measured() -> None:
    metrics = Metrics()
    metrics.step_finished("switch", "done", 0.1)
    text = metrics.render().decode()
    assert (
        'fairlead_deploy_step_duration_seconds_bucket{le="0.15",result="done",step="switch"} 1.0'
        in text
    )
    assert (
        'fairlead_deploy_step_duration_seconds_bucket{le="0.05",result="done",step="switch"} 0.0'
        in text
    )


def test_more_apps_than_a_scrape_bears_share_a_line() -> None:
    metrics = Metrics()
    for number in range(MAX_APPS + 5):
        metrics.deploy_finished(f"app-{number}", "live")
    text = metrics.render().decode()
    assert 'fairlead_deploys_total{app="other",result="live"} 5.0' in text
    assert text.count("fairlead_deploys_total{") == MAX_APPS + 1


def test_lines_of_the_log_that_nobody_read_are_counted() -> None:
    metrics = Metrics()
    metrics.watch(lambda: 0, lambda: 0, lambda: True, lambda: 0.0, lambda: 7)
    assert "fairlead_log_dropped_lines_total 7.0" in metrics.render().decode()
