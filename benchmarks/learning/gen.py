"""Training scans: `gen.py FROM TO`; each is saved with the engine's object and what the patterns say of it, midway and at the end."""
from lib import *
a,b=int(sys.argv[1]),int(sys.argv[2]); tag=sys.argv[3] if len(sys.argv)>3 else 'tr'
for k in range(a,b):
    f=D/f'{tag}{k:04d}.npz'
    if f.exists(): continue
    rng=np.random.default_rng([77,k])
    p,d=random_probe(rng); ov=rng.uniform(-.02,.75); ph=10**rng.uniform(3,6) if rng.random()<.6 else 10**rng.uniform(3,4.5)
    c=centers_for(rng,d,ov,256)
    try:
        s=make(lambda sh:random_object(rng,sh),p,c,ph,k)
        pr=prepare_scan(s,mode='absolute') if False else prepare_scan(s)
        o=options(pr); half=max(3,round(.4*o.passes)); keep={}
        t=time.process_time()
        r=refine(pr,np.ones(pr.layout.shape,np.complex64),o,after_pass=lambda n,x: keep.__setitem__(n,x.copy()) if n==half else None)
        t=time.process_time()-t
        out={}
        for name,O in (('h',keep.get(half)),('f',r.canvas)):
            if O is None: continue
            G,W,M,rat=measure(pr,O); out.update({f'O{name}':O,f'G{name}':G,f'M{name}':M,'W':W})
        np.savez(f,T=truth_on_canvas(pr,np.asarray(s.object)),diff=np.asarray(s.diffraction),pos=s.positions,probe=np.asarray(s.probe),ov=ov,ph=ph,passes=o.passes,time=t,**out)
    except Exception as e: print(k,'failed',repr(e)[:200],flush=True)
