//! Harness shared by the suites: model, simulator and crash runner.
