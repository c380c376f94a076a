#!/usr/bin/env python3
# The load driver of the performance figures (docs/performance.md): taken over unchanged from the project's shared bench/load.py.
"""Load driver for a Kubernetes-compatible API server.  Stdlib only (uvloop used when importable); wrk for `get`.

  load.py --server https://127.0.0.1:16443 --token T [--ca ca.crt | --insecure] TEST [TEST ...]
  TESTs: create-cm create-pod get list watch podstart-seq podstart-par sched all   (cleanup happens after each)

Prints one JSON line per result.  --pids name=pid,... adds the CPU seconds those processes used during each test;
every line also carries loadavg and the machine's busy share, for judging noise.
"""
import argparse, asyncio, base64, json, os, re, shutil, ssl, statistics, subprocess, sys, time, urllib.parse
try:
    import uvloop; uvloop.install()
except ImportError:
    uvloop = None

HZ = os.sysconf('SC_CLK_TCK')
A = None


class HTTPError(Exception):
    pass


class Conn:
    """One keep-alive HTTP/1.1 connection, one request at a time."""
    def __init__(self):
        self.r = self.w = None

    async def open(self):
        self.r, self.w = await asyncio.open_connection(A.host, A.port, ssl=A.ctx, limit=1 << 26, server_hostname=A.host if A.ctx else None)

    async def head(self, method, path, body=None, ctype='application/json'):
        if self.w is None or self.w.is_closing():
            await self.open()
        b = b'' if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        h = f'{method} {path} HTTP/1.1\r\nHost: {A.host}:{A.port}\r\nAuthorization: Bearer {A.token}\r\nAccept: application/json\r\nUser-Agent: load.py\r\n'
        if body is not None:
            h += f'Content-Type: {ctype}\r\nContent-Length: {len(b)}\r\n'
        self.w.write(h.encode() + b'\r\n' + b)
        raw = (await self.r.readuntil(b'\r\n\r\n')).decode('latin1')
        lines = raw.split('\r\n')
        hd = {}
        for l in lines[1:]:
            if ':' in l:
                k, v = l.split(':', 1); hd[k.lower()] = v.strip()
        return int(lines[0].split(' ')[1]), hd

    async def chunks(self, hd):
        if 'chunked' in hd.get('transfer-encoding', ''):
            while True:
                n = int((await self.r.readuntil(b'\r\n')).split(b';')[0], 16)
                d = await self.r.readexactly(n + 2)
                if n == 0:
                    return
                yield d[:-2]
        elif 'content-length' in hd:
            n = int(hd['content-length'])
            if n:
                yield await self.r.readexactly(n)
        else:
            while True:
                d = await self.r.read(1 << 16)
                if not d:
                    return
                yield d

    async def req(self, method, path, body=None, ctype='application/json', ok=(200, 201, 202), parse=False):
        st, hd = await self.head(method, path, body, ctype)
        data = b''.join([c async for c in self.chunks(hd)])
        if hd.get('connection', '').lower() == 'close':
            self.close()
        if ok is not None and st not in ok:
            raise HTTPError(f'{method} {path}: {st} {data[:300]!r}')
        return json.loads(data) if parse else (st, data)

    def close(self):
        if self.w is not None:
            self.w.close(); self.w = None


class Probe:
    """Machine and process CPU over a test."""
    def __enter__(self):
        self.a = self.snap(); self.t = time.perf_counter(); return self

    def snap(self):
        f = [int(x) for x in open('/proc/stat').readline().split()[1:]]
        p = {}
        for n, pid in A.pids.items():
            try:
                s = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split(); p[n] = (int(s[11]) + int(s[12])) / HZ
            except OSError:
                pass
        return f, p, sum(os.times()[:2])

    def __exit__(self, *a):
        b = self.snap(); self.wall = time.perf_counter() - self.t
        d = [y - x for x, y in zip(self.a[0], b[0])]; tot = sum(d[:8]) or 1
        self.info = {'wall_s': round(self.wall, 3), 'machine_busy': round(1 - (d[3] + d[4]) / tot, 3), 'steal': round(d[7] / tot, 3), 'iowait': round(d[4] / tot, 3),
                     'driver_cpu_s': round(b[2] - self.a[2], 2), 'loadavg1': float(open('/proc/loadavg').read().split()[0])}
        if A.pids:
            self.info['cpu_s'] = {n: round(b[1][n] - self.a[1].get(n, 0), 2) for n in b[1]}
            self.info['rss_mib'] = {n: rss(pid) for n, pid in A.pids.items() if rss(pid)}


def rss(pid):
    try:
        return round(int(re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{pid}/status').read()).group(1)) / 1024, 1)
    except Exception:
        return None


def pct(v, p):
    v = sorted(v)
    return round(v[min(len(v) - 1, int(len(v) * p / 100))] * 1000, 2) if v else None


def lat(v):
    return {'p50_ms': pct(v, 50), 'p90_ms': pct(v, 90), 'p99_ms': pct(v, 99), 'max_ms': pct(v, 100)}


def out(test, **kw):
    print(json.dumps({'test': test, 'target': A.label, **kw}), flush=True)


async def fan(n, fn, conns=None):
    """Run fn(conn, i) for i < n over keep-alive connections; returns (seconds, latencies)."""
    cs = [Conn() for _ in range(conns or A.conns)]
    await asyncio.gather(*(c.open() for c in cs))
    it = iter(range(n)); lats = []

    async def worker(c):
        for i in it:
            t = time.perf_counter(); await fn(c, i); lats.append(time.perf_counter() - t)
    t = time.perf_counter()
    await asyncio.gather(*(worker(c) for c in cs))
    dt = time.perf_counter() - t
    for c in cs:
        c.close()
    return dt, lats


def cm(i, v='x'):
    return {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': f'cm-{i:05d}', 'labels': {'app': 'load'}}, 'data': {'k': (v * 1024)[:1024]}}


def pod(name, scheduler=None, selector=None, image='docker.io/library/busybox:1.29', command=('sleep', '3600'), req=None):
    s = {'containers': [{'name': 'c', 'image': image, 'command': list(command), 'imagePullPolicy': 'IfNotPresent'}], 'terminationGracePeriodSeconds': 0}
    if req: s['containers'][0]['resources'] = {'requests': req}
    if scheduler: s['schedulerName'] = scheduler
    if selector: s['nodeSelector'] = selector
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'labels': {'app': 'load'}}, 'spec': s}


async def mkns(c, ns):
    for _ in range(600):
        st, d = await c.req('POST', '/api/v1/namespaces', {'apiVersion': 'v1', 'kind': 'Namespace', 'metadata': {'name': ns}}, ok=None)
        if st in (200, 201):
            break
        if st == 409 and b'"AlreadyExists"' in d:
            if (await c.req('GET', f'/api/v1/namespaces/{ns}', parse=True))['status'].get('phase') == 'Active':
                break
        elif st not in (409,):
            raise HTTPError(f'namespace: {st} {d[:200]!r}')
        await asyncio.sleep(0.2)
    for _ in range(300):
        st, _d = await c.req('GET', f'/api/v1/namespaces/{ns}/serviceaccounts/default', ok=None)
        if st == 200:
            return
        await asyncio.sleep(0.1)
    print('warning: no default service account', file=sys.stderr)


async def rmall(c, ns, res):
    """Delete every object of a resource and wait until none is left."""
    p = f'/api/v1/namespaces/{ns}/{res}'
    await c.req('DELETE', p + '?gracePeriodSeconds=0&labelSelector=app%3Dload', ok=(200, 202, 404, 405))
    for k in range(600):
        l = await c.req('GET', p + '?labelSelector=app%3Dload&limit=500', parse=True)
        if not l['items']:
            return
        if k % 50 == 49:
            names = [x['metadata']['name'] for x in l['items']]
            await fan(len(names), lambda cc, i: cc.req('DELETE', f'{p}/{names[i]}?gracePeriodSeconds=0', ok=(200, 202, 404)), 4)
        await asyncio.sleep(0.2)


async def watch(path, rv, on_line):
    """Start a watch; returns (task, conn).  on_line gets each raw event line and the time."""
    c = Conn()
    sep = '&' if '?' in path else '?'
    st, hd = await c.head('GET', f'{path}{sep}watch=1&resourceVersion={rv}&timeoutSeconds=3600')
    if st != 200:
        raise HTTPError(f'watch {path}: {st}')

    async def run():
        buf = b''
        async for d in c.chunks(hd):
            t = time.perf_counter()
            buf += d
            if b'\n' in buf:
                *ls, buf = buf.split(b'\n')
                for l in ls:
                    if l: on_line(l, t)
    return asyncio.create_task(run()), c


async def t_create_cm(c):
    await mkns(c, A.ns)
    bodies = [json.dumps(cm(i)).encode() for i in range(A.n)]
    with Probe() as p:
        dt, l = await fan(A.n, lambda cc, i: cc.req('POST', f'/api/v1/namespaces/{A.ns}/configmaps', bodies[i]))
    out('create-cm', n=A.n, conns=A.conns, ops_s=round(A.n / dt, 1), **lat(l), **p.info)
    with Probe() as p:
        t = time.perf_counter(); await rmall(c, A.ns, 'configmaps'); dt = time.perf_counter() - t
    out('deletecollection-cm', n=A.n, ops_s=round(A.n / dt, 1), **p.info)


async def t_create_pod(c, keep=False):
    await mkns(c, A.ns)
    bodies = [json.dumps(pod(f'p-{i:05d}', scheduler='nobody')).encode() for i in range(A.n)]
    with Probe() as p:
        dt, l = await fan(A.n, lambda cc, i: cc.req('POST', f'/api/v1/namespaces/{A.ns}/pods', bodies[i]))
    out('create-pod', n=A.n, conns=A.conns, ops_s=round(A.n / dt, 1), **lat(l), **p.info)
    if not keep:
        await rmall(c, A.ns, 'pods')


async def t_get(c):
    await mkns(c, A.ns)
    await c.req('POST', f'/api/v1/namespaces/{A.ns}/configmaps', cm(0), ok=(200, 201, 409))
    url = f'{A.server}/api/v1/namespaces/{A.ns}/configmaps/cm-00000'
    for nc in (1, 16, 64):
        with Probe() as p:
            pr = await asyncio.create_subprocess_exec('wrk', '-t', '1' if nc == 1 else '2', '-c', str(nc), '-d', f'{A.secs}s', '--latency', '-H', f'Authorization: Bearer {A.token}', url, stdout=subprocess.PIPE)
            o = (await pr.communicate())[0].decode()
        m = {k: (re.search(r, o).group(1) if re.search(r, o) else None) for k, r in {'req_s': r'Requests/sec:\s+([\d.]+)', 'p50': r'(?m)^\s+50%\s+(\S+)', 'p99': r'(?m)^\s+99%\s+(\S+)', 'non2xx': r'Non-2xx.*: (\d+)'}.items()}
        out('get', conns=nc, req_s=float(m['req_s']), p50=m['p50'], p99=m['p99'], non2xx=m['non2xx'], **p.info)
    await rmall(c, A.ns, 'configmaps')


async def t_list(c):
    l = await c.req('GET', f'/api/v1/namespaces/{A.ns}/pods?limit=1', ok=None)
    await mkns(c, A.ns)
    await t_create_pod(c, keep=True)
    for q in ('', '?resourceVersion=0'):
        ls, size = [], 0
        with Probe() as p:
            for _ in range(A.lists):
                t = time.perf_counter(); st, d = await c.req('GET', f'/api/v1/namespaces/{A.ns}/pods{q}'); ls.append(time.perf_counter() - t); size = len(d)
        out('list-pods', query=q, n=len(json.loads(d)['items']), bytes=size, **lat(ls), **p.info)
    await rmall(c, A.ns, 'pods')


async def t_watch(c):
    await mkns(c, A.ns)
    U, W = A.updates, A.watchers
    path = f'/api/v1/namespaces/{A.ns}/configmaps'
    await fan(U, lambda cc, i: cc.req('POST', path, cm(i)))
    rv = (await c.req('GET', path + '?limit=1', parse=True))['metadata']['resourceVersion']
    got, sent, lag, last = [0] * W, {}, [], [0.0]
    done = asyncio.Event()
    pend = {}
    rx = re.compile(rb'"name":"cm-(\d+)"')

    def mk(k):
        def f(line, t):
            if not line.startswith(b'{"type":"MODIFIED"'):
                return
            got[k] += 1
            if k % 10 == 0:
                i = int(rx.search(line).group(1)); pend.setdefault(i, []).append(t)
            last[0] = t
            if got[k] == U and all(g >= U for g in got):
                done.set()
        return f
    ws = await asyncio.gather(*(watch(path, rv, mk(k)) for k in range(W)))
    await asyncio.sleep(1)
    bodies = [json.dumps(cm(i, 'y')).encode() for i in range(U)]

    async def upd(cc, i):
        sent[i] = time.perf_counter(); await cc.req('PUT', f'{path}/cm-{i:05d}', bodies[i])
    with Probe() as p:
        t0 = time.perf_counter()
        dt, l = await fan(U, upd)
        try:
            await asyncio.wait_for(done.wait(), 120)
        except asyncio.TimeoutError:
            pass
        total = last[0] - t0
    for i, ts in pend.items():
        lag += [t - sent[i] for t in ts]
    out('watch-fanout', watchers=W, updates=U, all_received=all(g >= U for g in got), received=sum(got), seconds_to_last=round(total, 3), write_seconds=round(dt, 3), events_s=round(sum(got) / total, 0), lag_from_put_start=lat(lag), put=lat(l), **p.info)
    for task, cc in ws:
        task.cancel(); cc.close()
    await rmall(c, A.ns, 'configmaps')


async def podstart(c, n, par):
    await mkns(c, A.ns)
    path = f'/api/v1/namespaces/{A.ns}/pods'
    rv = (await c.req('GET', path, parse=True))['metadata']['resourceVersion']
    created, running, ready, evs = {}, {}, {}, {}

    def on(line, t):
        e = json.loads(line); o = e['object']; n_ = o['metadata'].get('name')
        if e['type'] in ('ADDED', 'MODIFIED') and o.get('status', {}).get('phase') == 'Running' and n_ not in running:
            running[n_] = t
            if n_ in evs: evs[n_].set()
    task, wc = await watch(path, rv, on)
    with Probe() as p:
        t0 = time.perf_counter()

        async def one(cc, i):
            nm = f's-{i:03d}'; evs[nm] = asyncio.Event(); created[nm] = time.perf_counter()
            await cc.req('POST', path, pod(nm))
            if not par:
                await asyncio.wait_for(evs[nm].wait(), 120)
        if par:
            await fan(n, one)
            await asyncio.wait_for(asyncio.gather(*(e.wait() for e in evs.values())), 600)
        else:
            for i in range(n):
                await one(c, i)
        total = time.perf_counter() - t0
    l = [running[k] - created[k] for k in created]
    out('podstart-par' if par else 'podstart-seq', n=n, **lat(l), total_s=round(total, 2), pods_s=round(n / total, 2), **p.info)
    task.cancel(); wc.close()
    t = time.perf_counter(); await rmall(c, A.ns, 'pods'); out('podstop-' + ('par' if par else 'seq'), n=n, total_s=round(time.perf_counter() - t, 2))


def fakenode(i):
    now = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
    cap = {'cpu': '32', 'memory': '64Gi', 'pods': '110', 'ephemeral-storage': '100Gi'}
    return {'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'name': f'fake-{i:04d}', 'labels': {'fake': 'true', 'kubernetes.io/hostname': f'fake-{i:04d}'}},
            'status': {'capacity': cap, 'allocatable': cap, 'conditions': [{'type': 'Ready', 'status': 'True', 'reason': 'Fake', 'message': 'fake', 'lastHeartbeatTime': now, 'lastTransitionTime': now}]}}


async def t_sched(c):
    await mkns(c, A.ns)
    N, P = A.nodes, A.sched_pods
    await fan(N, lambda cc, i: cc.req('POST', '/api/v1/nodes', fakenode(i), ok=(200, 201, 409)))

    async def beat():
        while True:
            now = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
            b = json.dumps({'status': {'conditions': [{'type': 'Ready', 'status': 'True', 'reason': 'Fake', 'message': 'fake', 'lastHeartbeatTime': now}]}}).encode()
            await fan(N, lambda cc, i: cc.req('PATCH', f'/api/v1/nodes/fake-{i:04d}/status', b, ctype='application/strategic-merge-patch+json', ok=(200, 404)), 2)
            await asyncio.sleep(10)
    hb = asyncio.create_task(beat())
    await asyncio.sleep(8)  # let taints (not-ready) go
    for _ in range(100):
        l = await c.req('GET', '/api/v1/nodes?labelSelector=fake%3Dtrue', parse=True)
        if sum(1 for x in l['items'] if x['spec'].get('taints')) == 0: break
        await asyncio.sleep(0.5)
    path = f'/api/v1/namespaces/{A.ns}/pods'
    rv = (await c.req('GET', path, parse=True))['metadata']['resourceVersion']
    bound, created, done = {}, {}, asyncio.Event()

    def on(line, t):
        e = json.loads(line); o = e['object']
        if e['type'] in ('ADDED', 'MODIFIED') and o['spec'].get('nodeName') and o['metadata']['name'] not in bound:
            bound[o['metadata']['name']] = (t, o['spec']['nodeName'])
            if len(bound) >= P: done.set()
    task, wc = await watch(path, rv, on)
    bodies = [json.dumps(pod(f'q-{i:05d}', selector={'fake': 'true'}, req={'cpu': '100m', 'memory': '64Mi'})).encode() for i in range(P)]

    async def one(cc, i):
        created[f'q-{i:05d}'] = time.perf_counter(); await cc.req('POST', path, bodies[i])
    with Probe() as p:
        t0 = time.perf_counter(); dt, l = await fan(P, one)
        try:
            await asyncio.wait_for(done.wait(), 300)
        except asyncio.TimeoutError:
            pass
        total = max([t for t, _ in bound.values()] or [time.perf_counter()]) - t0
    per = {}
    for _, n in bound.values(): per[n] = per.get(n, 0) + 1
    out('sched', nodes=N, pods=P, bound=len(bound), create_s=round(dt, 2), total_s=round(total, 2), bound_per_s=round(len(bound) / total, 1), create_to_bound=lat([bound[k][0] - created[k] for k in bound]), spread=[min(per.values() or [0]), max(per.values() or [0]), len(per)], **p.info)
    task.cancel(); wc.close()
    await rmall(c, A.ns, 'pods')
    hb.cancel()
    await fan(N, lambda cc, i: cc.req('DELETE', f'/api/v1/nodes/fake-{i:04d}', ok=(200, 404)), 4)


async def main():
    c = Conn()
    v = await c.req('GET', '/version', parse=True)
    out('version', version=v.get('gitVersion'), uvloop=bool(uvloop))
    T = {'create-cm': t_create_cm, 'create-pod': t_create_pod, 'get': t_get, 'list': t_list, 'watch': t_watch, 'podstart-seq': lambda c: podstart(c, A.seq, False), 'podstart-par': lambda c: podstart(c, A.par, True), 'sched': t_sched}
    for name in (list(T) if A.tests == ['all'] else A.tests):
        try:
            await T[name](c)
        except Exception as e:
            out(name, error=repr(e)[:500])
            c.close()
    c.close()


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('tests', nargs='+'); ap.add_argument('--server', required=True); ap.add_argument('--token', default=''); ap.add_argument('--ca'); ap.add_argument('--insecure', action='store_true')
    ap.add_argument('--label', default='target'); ap.add_argument('--ns', default='load'); ap.add_argument('--n', type=int, default=2000); ap.add_argument('--conns', type=int, default=16)
    ap.add_argument('--secs', type=int, default=10); ap.add_argument('--lists', type=int, default=15); ap.add_argument('--watchers', type=int, default=100); ap.add_argument('--updates', type=int, default=500)
    ap.add_argument('--seq', type=int, default=20); ap.add_argument('--par', type=int, default=50); ap.add_argument('--nodes', type=int, default=100); ap.add_argument('--sched-pods', type=int, default=1000); ap.add_argument('--pids', default='', help='name=pid,... or a directory of pid files')
    A = ap.parse_args()
    u = urllib.parse.urlsplit(A.server); A.host, A.port = u.hostname, u.port or (443 if u.scheme == 'https' else 80)
    if u.scheme == 'https':
        A.ctx = ssl.create_default_context(cafile=A.ca) if not A.insecure else ssl._create_unverified_context()
    else:
        A.ctx = None
    if os.path.isdir(A.pids):
        A.pids = {n: int(open(os.path.join(A.pids, n)).read()) for n in os.listdir(A.pids) if not n.startswith(('holder', 'pin-'))}
    else:
        A.pids = {k: int(v) for k, v in (x.split('=') for x in A.pids.split(',') if x)}
    asyncio.run(main())
