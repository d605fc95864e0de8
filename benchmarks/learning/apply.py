"""Gains over the engine on scans never trained on: `apply.py WEIGHTS ...`."""
from train import *
from evalset import *
def load_net(f,**k):
    m=Net(**k).to(memory_format=torch.channels_last); m.load_state_dict(torch.load(f)); return m.eval()
def step(m,O,G,W,M,blind=False,mirror=0):
    c=np.exp(-1j*np.angle((O*W).sum())).astype(np.complex64)
    x,sc=feats(O*c,G*c,W,M); h,w=O.shape
    if blind: x[2:6]=0; x[8]=0
    x=np.pad(x,((0,0),(0,-h%8),(0,-w%8)),mode='edge')
    with torch.no_grad(): y=m(torch.from_numpy(x[None]).contiguous(memory_format=torch.channels_last))[0].numpy()[:,:h,:w]
    med=np.median(W[W>.1*W.max()]); sc=sc*np.clip(W/(.15*med),0,1)
    return ((O*c+sc*(y[0]+1j*y[1]))*c.conj()).astype(np.complex64)
def table(nets,combos=MAIN,doses=DOSES,overlaps=OVERLAPS,blind=False,show=True):
    tot={}
    for ov in overlaps:
        for ph in doses:
            rows=[]
            for o,p in combos:
                f=E/f'eng_{o}_{p}_{ov}_{ph:g}_None_.npz'
                if not f.exists(): continue
                s,pr,O,t=engine_for(o,p,ov,ph); pi=ov<=0
                key=f'sc_{o}_{p}_{ov}_{ph:g}.json'
                if (E/key).exists(): s0=json.load(open(E/key))
                else: s0=scores(pr,O,s,pistons=pi); json.dump(s0,open(E/key,'w'))
                t0=time.process_time(); res=[]
                for m in nets:
                    G,W,M,r=measure(pr,O); O=step(m,O,G,W,M,blind)
                dt=time.process_time()-t0
                s1=scores(pr,O,s,pistons=pi)
                rows.append([s1[k]-s0[k] for k in s0]); 
                if show: print(f'{o:8s} {p:8s} {ov} {ph:g} dose {scan_dose(pr):5.0f} t {t:.1f}+{dt:.2f} | {s0["phase"]:.1f} {s0["amp"]:.1f} {s0["area"]:.3f} {s0["detail"]:.2f} | '+' '.join(f'{k} {s1[k]-s0[k]:+.2f}' for k in s0),flush=True)
            if rows: print(f'  == {ov} {ph:g} n {len(rows)} median gains phase %+.2f amp %+.2f area %+.3f hp %+.2f detail %+.2f'%tuple(np.median(rows,0)),' worst',np.round(np.min(rows,0),2),flush=True)
if __name__=='__main__':
    A=argparse.ArgumentParser(); A.add_argument('nets',nargs='+'); A.add_argument('--blind',action='store_true'); A.add_argument('--quiet',action='store_true'); A.add_argument('--combos',default='MAIN'); A.add_argument('--overlaps',default='.6,.3,0.'); A.add_argument('--doses',default='1e3,1e4,1e5')
    a=A.parse_args(); table([load_net(f) for f in a.nets],combos=globals()[a.combos],blind=a.blind,show=not a.quiet,overlaps=[float(v) for v in a.overlaps.split(',')],doses=[float(v) for v in a.doses.split(',')])
