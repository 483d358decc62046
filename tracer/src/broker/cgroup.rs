//! What a process lives in, read from `/proc/PID/cgroup`: a container, a Kubernetes pod, a systemd unit. Only shapes
//! that the runtimes are known to write are taken; anything else is not named at all.

use std::fmt;

/// Who runs a container, as far as its control group tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// `docker-<id>.scope`, `/docker/<id>`.
    Docker,
    /// `cri-containerd-<id>.scope`: containerd under a kubelet.
    Containerd,
    /// `crio-<id>.scope`.
    CriO,
    /// `libpod-<id>.scope`.
    Podman,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        })
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// `None` where a kubelet with the cgroupfs driver names the pod and the container, but not who runs it.
    pub runtime: Option<Runtime>,
    /// 64 lowercase hexadecimal digits.
    pub id: String,
}

/// The first twelve digits, as the runtimes' own tools show them.
impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(runtime) = self.runtime {
            write!(f, "{runtime} ")?;
        }
        write!(f, "container {}", self.id.get(..12).unwrap_or(&self.id))
    }
}

/// Where a process lives; all `None` for a plain process, and for what is not known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Home {
    /// The innermost container.
    pub container: Option<Container>,
    /// The uid of the Kubernetes pod: a UUID with dashes, or for a static pod 32 hexadecimal digits.
    pub pod: Option<String>,
    /// The systemd unit, as `rabbitmq-server.service`; inside a container only that container's own.
    pub service: Option<String>,
}

impl Home {
    /// Parses the text of `/proc/PID/cgroup`, of version 1, 2 or both. Lines that contradict each other name nothing.
    pub fn parse(text: &str) -> Self {
        // `hierarchy:controllers:path`; the path may have colons of its own.
        let split = |line| {
            let mut parts = str::splitn(line, 3, ':').skip(1);
            Some((parts.next()?, Self::of_path(parts.next()?)))
        };
        let lines: Vec<(&str, Self)> = text.lines().filter_map(split).collect();
        // Only systemd's own hierarchy, or the only one, is surely laid out by units.
        let units = |(controllers, home): &(&str, Self)| {
            if matches!(*controllers, "" | "name=systemd") { home.service.clone() } else { None }
        };
        let container = agreed(lines.iter().filter_map(|(_, home)| home.container.clone()));
        let inside = |line: &&(&str, Self)| line.1.container == container;
        Self {
            pod: agreed(lines.iter().filter_map(|(_, home)| home.pod.clone())),
            // A line that does not know of the container tells its runtime's unit.
            service: agreed(lines.iter().filter(inside).filter_map(units)),
            container,
        }
    }

    /// What one path tells; on each level the innermost.
    fn of_path(path: &str) -> Self {
        let mut home = Self::default();
        let (mut parent, mut parent_is_pod, mut below_kubepods) = ("", false, false);
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let pod = pod(component, below_kubepods);
            parent_is_pod = if let Some(container) = container(component, parent, parent_is_pod) {
                // What is outside of a container is its runtime's unit, not the process's.
                (home.container, home.service) = (Some(container), None);
                false
            } else {
                if component.ends_with(".service") {
                    home.service = Some(component.to_owned());
                }
                pod.is_some()
            };
            home.pod = pod.or(home.pod);
            below_kubepods |= component == "kubepods";
            parent = component;
        }
        home
    }
}

/// As `, docker container 0123456789ab, pod …, rabbitmq-server.service`; empty where nothing is known.
impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(container) = &self.container {
            write!(f, ", {container}")?;
        }
        if let Some(pod) = &self.pod {
            write!(f, ", pod {pod}")?;
        }
        if let Some(service) = &self.service {
            write!(f, ", {service}")?;
        }
        Ok(())
    }
}

/// The one thing that all name.
fn agreed<T: PartialEq>(mut named: impl Iterator<Item = T>) -> Option<T> {
    let first = named.next()?;
    named.all(|other| other == first).then_some(first)
}

/// The container that a component stands for.
fn container(component: &str, parent: &str, parent_is_pod: bool) -> Option<Container> {
    let (runtime, id) = match scope(component) {
        Some((runtime, id)) => (Some(runtime), id),
        None if parent == "docker" => (Some(Runtime::Docker), component),
        None if parent_is_pod => (None, component),
        None => return None,
    };
    is_id(id).then(|| Container { runtime, id: id.to_owned() })
}

/// A component in which a runtime names itself, and what it names.
fn scope(component: &str) -> Option<(Runtime, &str)> {
    // containerd without SystemdCgroup under a kubelet with it takes systemd's triple for a directory's name.
    if let Some((slice, id)) = component.split_once(":cri-containerd:") {
        return slice.ends_with(".slice").then_some((Runtime::Containerd, id));
    }
    // Podman with the cgroupfs driver, or with a cgroup split as Quadlet has it, writes no suffix.
    if let Some(rest) = component.strip_prefix("libpod-") {
        let id = rest.strip_suffix(".scope").unwrap_or(rest);
        return Some((Runtime::Podman, id.strip_prefix("payload-").unwrap_or(id)));
    }
    let name = component.strip_suffix(".scope")?;
    [("docker-", Runtime::Docker), ("cri-containerd-", Runtime::Containerd), ("crio-", Runtime::CriO)]
        .into_iter()
        .find_map(|(prefix, runtime)| Some((runtime, name.strip_prefix(prefix)?)))
}

/// The uid in `kubepods-burstable-pod<uid>.slice`, where systemd's driver writes `_` for `-`, or below `kubepods` in
/// `pod<uid>`.
fn pod(component: &str, below_kubepods: bool) -> Option<String> {
    let slice = component.split(':').next().and_then(|first| first.strip_suffix(".slice"));
    let uid = match slice {
        Some(slice) => slice.rsplit_once("-pod").filter(|(root, _)| root.contains("kubepods"))?.1,
        None => component.strip_prefix("pod").filter(|_| below_kubepods)?,
    };
    let uid = uid.replace('_', "-");
    let uuid = uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let digits: String = uid.chars().filter(|letter| *letter != '-').collect();
    ((uuid || uid.len() == 32) && digits.len() == 32 && is_hex(&digits)).then_some(uid)
}

/// A full container id; a shortened one could be something else.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef";
    const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
    const UID: &str = "7a9f8c1e-0b2d-4c3e-9f10-a1b2c3d4e5f6";

    /// Parses lines in which ID, UID and U_ID stand for what they are called.
    fn home(text: &str) -> Home {
        let text = text.replace("U_ID", &UID.replace('-', "_")).replace("UID", UID).replace("ID2", OTHER);
        Home::parse(&text.replace("ID", ID))
    }

    fn expected(runtime: Option<Runtime>, pod: bool, service: Option<&str>) -> Home {
        Home {
            container: Some(Container { runtime, id: ID.to_owned() }),
            pod: pod.then(|| UID.to_owned()),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn containers() {
        use Runtime::{Containerd, CriO, Docker, Podman};
        for (runtime, text) in [
            (Docker, "0::/system.slice/docker-ID.scope"),
            (Docker, "0::/docker/ID"),
            (Docker, "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope"),
            (Docker, "12:memory:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service"),
            (
                Docker,
                "11:devices:/system.slice/docker-ID.scope\n1:name=systemd:/system.slice/docker-ID.scope",
            ),
            (Docker, "0::/../docker-ID.scope"),
            (Podman, "0::/machine.slice/libpod-ID.scope"),
            (Podman, "0::/machine.slice/libpod-ID.scope/container"),
            (Podman, "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container"),
            (Podman, "5:pids:/libpod_parent/libpod-ID"),
            (Podman, "0::/system.slice/rabbitmq.service/libpod-payload-ID"),
            (Containerd, "0::/system.slice/cri-containerd-ID.scope"),
            (CriO, "0::/system.slice/crio-ID.scope"),
        ] {
            assert_eq!(home(text), expected(Some(runtime), false, None), "{text}");
        }
    }

    #[test]
    fn pods() {
        use Runtime::{Containerd, CriO, Docker};
        const SLICE: &str = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice";
        for (runtime, text) in [
            (Some(Containerd), format!("0::/{SLICE}/cri-containerd-ID.scope")),
            (Some(Containerd), format!("0::/kubelet.slice/kubelet-{SLICE}/cri-containerd-ID.scope")),
            (Some(CriO), format!("0::/{SLICE}/crio-ID.scope")),
            (
                Some(Docker),
                format!("4:cpu,cpuacct:/{SLICE}/docker-ID.scope\n1:name=systemd:/{SLICE}/docker-ID.scope"),
            ),
            (
                Some(Containerd),
                "0::/kubepods.slice/kubepods-podU_ID.slice/cri-containerd-ID.scope".to_owned(),
            ),
            (
                None,
                "9:memory:/kubepods/besteffort/podUID/ID\n1:name=systemd:/kubepods/besteffort/podUID/ID"
                    .to_owned(),
            ),
            (None, "0::/kubepods/podUID/ID".to_owned()),
            (
                Some(Containerd),
                "0::/system.slice/containerd.service/kubepods-besteffort-podU_ID.slice:cri-containerd:ID"
                    .to_owned(),
            ),
        ] {
            assert_eq!(home(&text), expected(runtime, true, None), "{text}");
        }
        let fixed = home("0::/kubepods/burstable/pod0123456789abcdef0123456789abcdef/ID");
        assert_eq!(fixed.pod.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn units() {
        for (service, text) in [
            ("rabbitmq-server.service", "0::/system.slice/rabbitmq-server.service"),
            (
                "rabbitmq-server.service",
                "8:memory:/system.slice/rabbitmq-server.service\n1:name=systemd:/system.slice/rabbitmq-server.service\n0::/",
            ),
            ("broker.service", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/broker.service"),
            ("rabbitmq@one.service", "0::/system.slice/system-rabbitmq.slice/rabbitmq@one.service/inner"),
            ("rabbitmq-server.service", "0::/lxc.payload.broker/system.slice/rabbitmq-server.service"),
        ] {
            assert_eq!(home(text), Home { service: Some(service.to_owned()), ..Home::default() }, "{text}");
        }
        // A container that runs systemd has units of its own.
        let inside = home("0::/docker/ID/system.slice/rabbitmq-server.service");
        assert_eq!(inside, expected(Some(Runtime::Docker), false, Some("rabbitmq-server.service")));
    }

    #[test]
    fn the_innermost_container_counts() {
        let inner = expected(Some(Runtime::Docker), false, None);
        assert_eq!(home("0::/docker/ID2/docker/ID"), inner);
        assert_eq!(home("0::/system.slice/docker-ID2.scope/docker/ID"), inner);
        // kind: a node is a container, with pods in it.
        let text = "0::/docker/ID2/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_ID.slice/cri-containerd-ID.scope";
        assert_eq!(home(text), expected(Some(Runtime::Containerd), true, None));
    }

    #[test]
    fn what_is_not_known_is_not_named() {
        for text in [
            "",
            "0::/",
            "nonsense",
            "0::",
            ":::::",
            "0::/init.scope",
            "0::/user.slice/user-0.slice/session-3.scope",
            "4:memory:/process_api/af92a3a0225791a96fc4d88348105fa8",
            "0::/system.slice/docker-3f2a9c0d1e4b.scope",
            "0::/docker/3f2a9c0d1e4b",
            "0::/docker/buildkit",
            "0::/default/ID",
            "0::/system.slice/crio-conmon-ID.scope",
            "0::/machine.slice/libpod-conmon-ID.scope",
            "0::/elsewhere/podUID/ID",
            "0::/kubepods/besteffort/podnot-a-uid/ID",
            "0::/ecs/3f2a9c0d1e4b/ID",
            "0::/system.slice/docker-ID.scope\n4:memory:/system.slice/docker-ID2.scope",
            "4:memory:/system.slice/rabbitmq-server.service",
        ] {
            assert_eq!(home(text), Home::default(), "{text}");
        }
    }

    #[test]
    fn told_in_few_words() {
        assert_eq!(Home::default().to_string(), "");
        assert_eq!(
            home("0::/kubepods/podUID/ID").to_string(),
            format!(", container 3f2a9c0d1e4b, pod {UID}")
        );
        assert_eq!(home("0::/docker/ID").to_string(), ", docker container 3f2a9c0d1e4b");
        assert_eq!(home("0::/system.slice/a.service").to_string(), ", a.service");
    }
}
