"""pnp.py NET [iterations]: the learned prior in place of TV after the engine's default passes"""
from bound import *
from evalset import *
def iterate(m,pr,O,n,scale=1.):
    for _ in range(n):
        G,W,M,r=measure(pr,O); z,sig,rel,M=real_state(O,G,W,M)
        y=denoise(m,z,sig*scale,rel,M); k=np.clip(rel/.15,0,1); O=(O+k*(y-O)).astype(np.complex64)
    return O
if __name__=='__main__':
    m=loadd(sys.argv[1]); its=[int(v) for v in sys.argv[2].split(',')]; doses=[float(v) for v in sys.argv[3].split(',')]; ovs=[float(v) for v in sys.argv[4].split(',')]
    for ov in ovs:
        for ph in doses:
            rows=[]
            for o,p in MAIN:
                s,pr,O,t=engine_for(o,p,ov,ph); pi=ov<=0; key=E/f'sc_{o}_{p}_{ov}_{ph:g}.json'
                if key.exists(): s0=json.load(open(key))
                else: s0=scores(pr,O,s,pistons=pi); json.dump(s0,open(key,'w'))
                out=[]; x=O; done=0; t0=time.process_time()
                for n in its:
                    x=iterate(m,pr,x,n-done); done=n; dt=time.process_time()-t0
                    s1=scores(pr,x,s,pistons=pi); out.append([s1[k]-s0[k] for k in s0]); t0+=0
                rows.append(out)
                print(f'{o:8s} {p:8s} {ov} {ph:g} dose {scan_dose(pr):5.0f} | {s0["phase"]:.1f} {s0["amp"]:.1f} {s0["area"]:.3f} {s0["detail"]:.2f} | phase amp area hp detail '+' ; '.join(f'{n}: '+' '.join(f'{v:+.2f}' for v in r) for n,r in zip(its,out)),flush=True)
            r=np.median(rows,0); w=np.min(rows,0)
            for n,a,b in zip(its,r,w): print(f'  == {ov} {ph:g} it {n} median phase %+.2f amp %+.2f area %+.3f hp %+.2f detail %+.2f'%tuple(a),'worst',b.round(2),flush=True)
