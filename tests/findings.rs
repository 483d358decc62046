//! Findings: everybody at once around a real broker, each named with what he does and nothing else; and a check that
//! was mended.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Listener, Manners, Tracer,
    amqp::Session,
    haproxy::HaProxy,
    loopback, ports,
    rabbitmq::RabbitMq,
    record::Finding,
    traffic::{at_once, connect, connect_without_ack},
    wait,
};

/// Does something at every beat, however long it takes.
fn every<T>(period: Duration, times: u32, mut act: impl FnMut() -> T) {
    let begin = Instant::now();
    for beat in 0..times {
        thread::sleep((begin + period * beat).saturating_duration_since(Instant::now()));
        let _: T = act();
    }
}

/// Within five in a hundred.
fn is_about(found: Option<u64>, period: Duration) -> bool {
    let found = Duration::from_nanos(found.unwrap_or(0)).as_secs_f64();
    (found / period.as_secs_f64() - 1.0).abs() < 0.05
}

fn who_and_what(findings: &[Finding]) -> BTreeSet<(IpAddr, String)> {
    findings.iter().map(|finding| (finding.source.ip.unwrap(), finding.rule.name.clone())).collect()
}

#[test]
fn everybody_at_once_is_named_with_what_he_does() {
    const PERIOD: Duration = Duration::from_secs(2);
    let broker = RabbitMq::shared();
    let [checker, prober, producer, silent, application] = [(); 5].map(|()| broker.new_host());
    let tracer = Tracer::start(&[broker.port()], &["--interval", "1s", "--events", "sources,findings"]);
    let haproxy = HaProxy::start(&checker, broker.address(), &[]);
    let probe = || every(PERIOD, 9, || connect(prober.ip, broker.address()).reset());
    let produce = || {
        every(Duration::from_millis(500), 30, || Session::open(producer.ip, broker.address()).close());
    };
    let be_silent = || {
        for _ in 0..4 {
            connect(silent.ip, broker.address()).await_end();
        }
    };
    let work = application.enter(|| Session::open(application.ip, broker.address()));
    let all: [(_, &(dyn Fn() + Sync)); 3] = [(&prober, &probe), (&producer, &produce), (&silent, &be_silent)];
    at_once(&all, |(host, act)| host.enter(act));
    application.enter(|| work.close());
    haproxy.stop();
    let found = tracer.stop();

    // The broker is shared with tests that run beside this one.
    let mine: Vec<IpAddr> = [&checker, &prober, &producer, &silent, &application].map(|host| host.ip).into();
    let mut findings = found.findings();
    findings.retain(|finding| mine.contains(&finding.source.ip.unwrap()));
    let expected = [
        (prober.ip, "health_check_by_reset"),
        (producer.ip, "connection_per_message"),
        (silent.ip, "stalled_handshakes"),
    ];
    let expected = expected.map(|(ip, rule)| (ip, rule.to_owned())).into();
    assert_eq!(who_and_what(&findings), expected, "{findings:#?}");
    for finding in &findings {
        assert!(finding.state != "closed", "{finding:?}");
        if finding.source.ip == Some(prober.ip) {
            assert!(finding.summary.contains("every 2.0 s"), "{finding:?}");
        }
    }
    // Eight arrivals make a clock, so the last windows know it.
    let last = found.sources().into_iter().rfind(|source| source.source.ip == Some(prober.ip)).unwrap();
    assert!(is_about(last.period_ns, PERIOD), "{last:?}");
    let checks = found.sums_by_source()[&Some(checker.ip)];
    assert!(checks > 50, "HAProxy checked, and that is no finding");
}

/// The resets stop, and half-open checks come instead.
#[test]
fn a_check_that_is_mended_is_said_to_be() {
    const PERIOD: Duration = Duration::from_millis(250);
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let source = loopback(1, 1);
    let tracer = Tracer::start(
        &[port],
        &["--interval", "500ms", "--threshold", "quiet=1s", "--threshold", "quiet_gaps=3"],
    );
    every(PERIOD, 16, || connect(source, listener.address()).reset());
    let mut checks = 0;
    wait::until("the finding to close", || {
        connect_without_ack(source, listener.address()).reset();
        checks += 1;
        thread::sleep(PERIOD);
        tracer.has_said(r#""state":"closed""#).then_some(())
    });
    let found = tracer.stop();

    let findings = found.findings();
    let [opened, closed] = &findings[..] else { panic!("{findings:#?}") };
    for (finding, state) in [(opened, "open"), (closed, "closed")] {
        assert_eq!((finding.rule.code.as_str(), finding.state.as_str()), ("AT001", state), "{finding:?}");
    }
    assert_eq!(opened.id, closed.id);
    assert_eq!((closed.source.ip, closed.count), (Some(source), 16), "{closed:?}");
    assert_eq!(closed.resolution.as_deref(), Some("half_open"), "{closed:?}");
    assert!(closed.summary.contains("now checks half-open"), "{closed:?}");
    assert!(is_about(opened.period_ns, PERIOD), "{opened:?}");
    let periods: Vec<_> = found.sources().iter().filter_map(|source| source.period_ns).collect();
    assert!(
        !periods.is_empty() && periods.iter().all(|period| is_about(Some(*period), PERIOD)),
        "{periods:?}"
    );
    let half_open: u64 =
        found.sources().iter().filter_map(|source| source.verdicts.get("probe_half_open")).sum();
    assert_eq!(half_open, checks);
}
