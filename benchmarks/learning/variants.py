"""The step whole, guarded by the patterns, at 60 %, and twice: `variants.py WEIGHTS[,WEIGHTS] DOSES OVERLAPS`."""
from apply import *
m=[load_net(f) for f in sys.argv[1].split(',')]; doses=[float(v) for v in sys.argv[2].split(',')]; ovs=[float(v) for v in sys.argv[3].split(',')]
combos=globals()[sys.argv[4]] if len(sys.argv)>4 else MAIN
for ov in ovs:
  for ph in doses:
    R=[]
    for o,p in combos:
        s,pr,O,t=engine_for(o,p,ov,ph); pi=ov<=0
        key=E/f'sc_{o}_{p}_{ov}_{ph:g}.json'
        if key.exists(): s0=json.load(open(key))
        else: s0=scores(pr,O,s,pistons=pi); json.dump(s0,open(key,'w'))
        G,W,M,r=measure(pr,O); O1=np.mean([step(q,O,G,W,M) for q in m],0).astype(np.complex64); G1,_,M1,r1=measure(pr,O1)
        k=np.clip(1-(M1-np.maximum(M,1))/.03,0,1)
        Og=(O+k*(O1-O)).astype(np.complex64); Oh=(O+.6*(O1-O)).astype(np.complex64)
        Gg,_,Mg,rg=measure(pr,Og); O2=np.mean([step(q,Og,Gg,W,Mg) for q in m],0).astype(np.complex64); M2=measure(pr,O2)[2]; k2=np.clip(1-(M2-np.maximum(Mg,1))/.03,0,1); O2=(Og+k2*(O2-Og)).astype(np.complex64)
        row=[[(sc:=scores(pr,x,s,pistons=pi))[q]-s0[q] for q in ('phase','amp','area','detail')] for x in (O1,Og,Oh,O2)]
        R.append(row)
    R=np.array(R); print(ov,f'{ph:g}','median (phase amp area detail) / worst detail: '+' ; '.join(f'{n} '+' '.join(f'{v:+.2f}' for v in np.median(R[:,i],0))+f' / {R[:,i,3].min():+.2f}' for i,n in enumerate(('net','guarded','60%','twice guarded'))),flush=True)
