# What installing and removing is made of, the same for every package format; the scripts of a format have this text in
# them. Every step may be repeated, and may find its work half done: by a package manager that was interrupted, or by hand.

# The user and group that the sockets and the service name. Kept by an upgrade, and by a removal that is not a purge.
make_user() {
  systemd-sysusers mesh-agent.conf || true
  if ! getent passwd mesh-agent > /dev/null; then
    useradd --system --user-group --home-dir /var/lib/mesh-agent --shell /usr/sbin/nologin mesh-agent
  fi
}

# Nothing is started or enabled: a host that has not joined has nothing to run. Upgraded while it runs: the new program
# takes over on the same sockets, the old one finishes what it has begun. If it cannot (a configuration that it does not
# read), the old one goes on, and the upgrade is not a reason to cut it.
take_over() {
  [ -d /run/systemd/system ] || return 0
  systemctl daemon-reload
  if systemctl is-active --quiet mesh-agent.service; then
    systemctl reload mesh-agent.service \
      || echo "mesh-agent: the version before keeps running; journalctl -u mesh-agent tells why" >&2
  fi
}

# Before the program goes.
leave() {
  [ -d /run/systemd/system ] || return 0
  # Rules first: from here on connections go where they would go without us.
  mesh-agent intercept remove > /dev/null 2>&1 || true
  systemctl disable --now mesh-agent.service mesh-agent-intercept.path mesh-agent-names.path \
    mesh-agent-inbound.socket mesh-agent-outbound.socket mesh-agent-dns.socket mesh-agent-admin.socket \
    mesh-agent-control.socket > /dev/null 2>&1 || true
  # Stopping the service has done this; a service that was killed has not.
  mesh-agent names remove > /dev/null 2>&1 || true
}

# After the units went: systemd forgets them.
forget_units() {
  [ -d /run/systemd/system ] || return 0
  systemctl daemon-reload
}

# The key, the stored answers, an unused join string, the user: nothing of the identity stays behind.
forget_host() {
  rm -rf /var/lib/mesh-agent /run/mesh-agent
  rm -f /etc/mesh-agent/join
  rmdir /etc/mesh-agent 2> /dev/null || true
  if getent passwd mesh-agent > /dev/null; then
    userdel mesh-agent > /dev/null 2>&1 || true
  fi
  if getent group mesh-agent > /dev/null; then
    groupdel mesh-agent > /dev/null 2>&1 || true
  fi
}
