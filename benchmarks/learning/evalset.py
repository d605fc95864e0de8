from lib import *
sys.path.insert(0,str(Path(__file__).resolve().parents[1]))
import quality_scans as Q
import hashlib
E=Path(os.environ.get('LEARNING_DATA','learning-data'))/'check'; E.mkdir(exist_ok=True)
def wide():
    x=np.arange(N)-N/2; rng=np.random.default_rng(7)
    ph=ndimage.gaussian_filter(rng.normal(size=(N,N)),4); ph*=2.0/ph.std()
    r=np.hypot(x[:,None],x); return (1/(1+np.exp((r-30)/1.5)))*np.exp(1j*(ph+r**2/90))
PROBES={'ring':lambda:Q.annular(10.,5.,40.),'window':lambda:Q.annular(20.,6.,90.),'measured':Q.measured,'wide':wide,'A':lambda:make_probe('defocused',N)[0]}
def text(shape):
    a=Q.texture('text',shape); return Q.transmission(a,a)
def lattice(shape):
    y,x=np.meshgrid(*[np.arange(n)-n/2 for n in shape],indexing='ij'); img=np.zeros(shape); P=9.0
    for i in range(-60,61):
        for j in range(-60,61):
            cy,cx=i*P*.866,j*P+(i%2)*P/2
            if abs(cy)>shape[0]/2+9 or abs(cx)>shape[1]/2+9 or (i,j)==(2,3): continue
            sl=(slice(max(0,int(cy+shape[0]/2-7)),max(0,int(cy+shape[0]/2+8))),slice(max(0,int(cx+shape[1]/2-7)),max(0,int(cx+shape[1]/2+8))))
            img[sl]+=np.exp(-((y[sl]-cy)**2+(x[sl]-cx)**2)/2/1.8**2)
    return Q.transmission(1-.9*np.clip(img,0,1),np.clip(img,0,1))
OBJ={**{k:Q.OBJECTS[k] for k in Q.KINDS},'text':text,'lattice':lattice,'absorbing':Q.OBJECTS['absorbing'],'hills':Q.OBJECTS['phase of 18 rad']}
COMBOS=[('page','measured'),('coins','ring'),('star','window'),('cell','wide'),('lattice','A'),('camera','ring'),('grass','measured'),('text','window')]
CHECK=[('grass','measured'),('text','window'),('brick','ring'),('camera','A'),('mixed','wide')]
MAIN=COMBOS[:6]
DOSES=(1e3,1e4,1e5); OVERLAPS=(.6,.3,0.)
def scan_for(o,p,ov,ph,extent=170):
    f=E/f'{o}_{p}_{ov}_{ph:g}.npz'
    if f.exists():
        z=np.load(f); return Scan(diffraction=z['diff'],positions=z['pos'],probe=z['probe'],object=z['obj'])
    pr=np.asarray(PROBES[p]()).squeeze(); d=energy_diameter(pr); rng=np.random.default_rng(5)
    c=centers_for(rng,d,ov,400,extent)
    s=make(OBJ[o],pr,c,ph,11)
    np.savez(f,diff=np.asarray(s.diffraction),pos=s.positions,probe=np.asarray(s.probe),obj=np.asarray(s.object))
    return Scan(diffraction=s.diffraction,positions=s.positions,probe=s.probe,object=s.object)
def prepared_for(o,p,ov,ph):
    s=scan_for(o,p,ov,ph); return s,prepare_scan(s)
def engine_for(o,p,ov,ph,passes=None,**k):
    key=f'{o}_{p}_{ov}_{ph:g}_{passes}_{"".join(f"{a}{b}" for a,b in k.items())}'; f=E/f'eng_{key}.npz'
    s,pr=prepared_for(o,p,ov,ph)
    if f.exists(): z=np.load(f); return s,pr,z['O'],float(z['t'])
    O,t=run(pr,passes,**k); np.savez(f,O=O,t=t); return s,pr,O,t
if __name__=='__main__':
    for ov in OVERLAPS:
        for ph in DOSES:
            for o,p in MAIN:
                try:
                    s,pr,O,t=engine_for(o,p,ov,ph)
                    sc=scores(pr,O,s,pistons=ov<=0)
                    print(f'{o:8s} {p:8s} {ov:.1f} {ph:g} n {len(s.positions)} d {energy_diameter(np.asarray(pr.probe)):.0f} dose {scan_dose(pr):.0f} {pr.layout.shape} passes {options(pr).passes} t {t:.1f}',{k:round(v,2) for k,v in sc.items()},flush=True)
                except Exception as e: print(o,p,ov,ph,'FAIL',repr(e)[:150],flush=True)
